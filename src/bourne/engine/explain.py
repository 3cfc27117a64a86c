"""What a view's circuit does and costs, as data and as text; `bourne.engine.picture` draws it.

Says what the compiler has decided, and decides nothing itself. A state is told to grow for ever only where that is known
from the plan alone: an operator keeps every row of an input to which each record of a log adds rows that never go. What
grows with the number of groups or keys is said, too, but nobody can know how many there will be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from bourne.engine.circuit import Circuit, OperatorState
from bourne.engine.operators.join import Join
from bourne.engine.operators.recompute import Recompute
from bourne.engine.picture import Box, Edge, Shape, draw_dot, draw_mermaid, draw_svg
from bourne.html_table import HtmlColumn, html_lines, html_table
from bourne.log.catalog import LogInfo
from bourne.log.relation import only_grows
from bourne.sql.outline import Names, outline
from bourne.sql.plan import BoundQuery
from bourne.sql.rules import optimise

_WAYS_TO_BOUND = (
    "bound it by a filter or an aggregate before it, by a row per key (changes='upsert'), or by the first n rows (not by "
    "keep=), or declare the view with grows=True"
)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a view. `inputs` are the numbers of those whose output it reads, or `relation` what it takes in.

    `rule` says by which rule it works; `is_generic` that it is the generic one, which computes groups anew. `remembers`
    says what it keeps, None that it keeps nothing or something of one size; `grows_for_ever` that this has no bound.
    `rows` and `bytes` are what it keeps now; None if that is not known, or nothing.
    """

    number: int
    label: str
    detail: str
    inputs: tuple[int, ...]
    relation: str | None
    rule: str
    is_generic: bool
    cost: str
    remembers: str | None
    grows_for_ever: bool
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a view reads; `kind` says whether it is a `log`, a `table` or a `view`."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What a view does and costs. Printed, it is its `text`; a notebook shows the picture, too.

    `changes` says what the view's output log holds: rows (`append`), rows that come and go (`weights`), or the newest row
    of each key (`upsert`). `plan` is the logical plan after the rewrites. `warning` says what grows for ever and what can
    be done, None if nothing does. `epoch` is the one after which the operators' rows and bytes were counted, None if
    they were not.
    """

    view: str
    sql: str
    columns: tuple[str, ...]
    changes: str
    sources: tuple[Source, ...]
    plan: tuple[str, ...]
    operators: tuple[Operator, ...]
    warning: str | None = None
    epoch: int | None = None

    def with_state(self, states: Sequence[OperatorState], epoch: int) -> Explanation:
        """Return the same with how much each operator remembers after an epoch."""
        found = {(state.node, state.label): state for state in states}

        def counted(each: Operator) -> Operator:
            state = found.get((each.number, each.label))
            return each if state is None else replace(each, rows=state.rows, bytes=state.bytes)

        return replace(self, operators=tuple(map(counted, self.operators)), epoch=epoch)

    @property
    def text(self) -> str:
        """The whole as text for a terminal."""
        return "\n".join(_lines(self))

    @property
    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart: logs and views, operators, the view."""
        return draw_mermaid(*_graph(self))

    @property
    def dot(self) -> str:
        """The graph in Graphviz's DOT: logs and views, operators, the view."""
        return draw_dot(*_graph(self))

    def __repr__(self) -> str:
        return self.text

    @property
    def svg(self) -> str:
        """The graph drawn simply, in the colours of the page that it is put in."""
        return draw_svg(*_graph(self))

    def _repr_html_(self) -> str:
        """Return the whole for a notebook: the picture, the operators, the plan."""
        return _html(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Return what a notebook may show."""
        return {
            "text/plain": self.text,
            "text/html": self._repr_html_(),
            "text/vnd.mermaid": self.mermaid,
        }


def explain_circuit(
    view: str, query: BoundQuery, circuit: Circuit, *, sql: str, inputs: Mapping[str, LogInfo], views: Collection[str]
) -> Explanation:  # fmt: skip
    """Return what a view's circuit does. `inputs` is what it was compiled with; `views` says which of them are views."""
    plan = optimise(query.plan)
    grows = growing_operators(circuit, inputs)
    operators = tuple(
        Operator(
            number, node.label, node.detail, node.inputs, node.relation, node.rule,
            isinstance(node.operator, Recompute), node.cost, node.growth, number in grows,
        )
        for number, node in enumerate(circuit.nodes)
    )  # fmt: skip
    return Explanation(
        view, sql, query.schema.names, circuit.changes,
        tuple(Source(name, _kind(name, inputs, views)) for name in circuit.relations),
        tuple(outline(plan, Names(plan, query.schema.names))), operators, growth_warning(view, circuit, inputs),
    )  # fmt: skip


def _kind(name: str, inputs: Mapping[str, LogInfo], views: Collection[str]) -> str:
    if name in views:
        return "view"
    return "table" if name in inputs and inputs[name].table is not None else "log"


def growth_warning(view: str, circuit: Circuit, inputs: Mapping[str, LogInfo]) -> str | None:
    """Return in one line which operators' state grows for ever, and what can be done; None if none does."""
    growing = [(number, circuit.nodes[number]) for number in sorted(growing_operators(circuit, inputs))]
    if not growing:
        return None
    shown = ", ".join(f"{node.label} (operator {number}) remembers {node.growth}" for number, node in growing)
    return f"the state of view {view!r} grows for ever: {shown}; {_WAYS_TO_BOUND}"


def growing_operators(circuit: Circuit, inputs: Mapping[str, LogInfo]) -> frozenset[int]:
    """Return the numbers of the operators whose state surely has no bound.

    Rows without end come from logs that only grow, through what remembers nothing, and through joins. What groups them
    or takes the first of them gives as many rows as there are groups.
    """
    endless: list[bool] = []
    found = set()
    for number, node in enumerate(circuit.nodes):
        is_fed = any(endless[i] for i in node.inputs)
        if node.relation is not None:
            info = inputs.get(node.relation)
            is_fed = info is None or only_grows(info)
        if node.keeps_rows and (is_fed or node.relation is not None):
            found.add(number)
        endless.append(is_fed and (isinstance(node.operator, Join) or not node.operator.is_stateful))
    return frozenset(found)


# --- as text ---


def _lines(explanation: Explanation) -> list[str]:
    lines = [f"view {explanation.view}: {', '.join(explanation.columns)}", "", "plan"]
    lines += [f"  {line}" for line in explanation.plan]
    lines += ["", "operators" if explanation.epoch is None else f"operators, after epoch {explanation.epoch}"]
    width = len(str(len(explanation.operators) - 1))
    for each in explanation.operators:
        lines.append(f"  {each.number:>{width}}  {each.detail}")
        lines += [f"  {'':{width}}    {line}" for line in _facts(each)]
    if explanation.warning is not None:
        lines += ["", f"note: {explanation.warning}"]
    return lines


def _facts(operator: Operator) -> list[str]:
    read = f"reads {', '.join(map(str, operator.inputs))}; " if operator.inputs else ""
    facts = [f"{read}{operator.cost}{f'; {operator.rule}' if operator.rule else ''}"]
    if operator.remembers is not None:
        facts.append(f"remembers {operator.remembers}{', for ever' if operator.grows_for_ever else ''}")
    if operator.rows is not None and operator.bytes is not None:
        facts.append(f"now {_state_text(operator.rows, operator.bytes)}")
    return facts


def _state_text(rows: int, size: int) -> str:
    return f"{rows:,} {'row' if rows == 1 else 'rows'}, {size_text(size)}"


def size_text(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


# --- as a page ---

_OPERATOR_COLUMNS = (
    HtmlColumn("", is_right=True), HtmlColumn("operator"), HtmlColumn("reads"), HtmlColumn("cost of a step"),
    HtmlColumn("rule"), HtmlColumn("remembers"), HtmlColumn("now", is_right=True),
)  # fmt: skip


def _html(explanation: Explanation) -> str:
    rows = [
        (
            str(each.number),
            each.detail,
            each.relation or ", ".join(map(str, each.inputs)),
            each.cost,
            each.rule,
            "" if each.remembers is None else each.remembers + (", for ever" if each.grows_for_ever else ""),
            "" if each.rows is None or each.bytes is None else _state_text(each.rows, each.bytes),
        )
        for each in explanation.operators
    ]
    heading = "operators" if explanation.epoch is None else f"operators, after epoch {explanation.epoch}"
    return "".join(
        [
            "<div>",
            html_table((), (), title=f"view {explanation.view}: {', '.join(explanation.columns)}"),
            explanation.svg,
            html_table(_OPERATOR_COLUMNS, rows, title=heading, note=explanation.warning or ""),
            html_lines("plan", explanation.plan),
            "</div>",
        ]
    )


# --- as a graph ---


def _graph(explanation: Explanation) -> tuple[list[Box], list[Edge]]:
    sources = {source.name: f"s{i}" for i, source in enumerate(explanation.sources)}
    boxes = [
        Box(sources[each.name], (f"{each.kind} {each.name}",), Shape.SOURCE) for each in explanation.sources
    ]
    edges = []
    for each in explanation.operators:
        boxes.append(
            Box(f"n{each.number}", _box_lines(each), Shape.STATE if each.remembers else Shape.OPERATOR)
        )
        if each.relation is not None:
            edges.append(Edge(sources[each.relation], f"n{each.number}"))
        edges += [Edge(f"n{i}", f"n{each.number}") for i in each.inputs]
    boxes.append(Box("v", (f"view {explanation.view}",), Shape.VIEW))
    edges.append(Edge(f"n{len(explanation.operators) - 1}", "v"))
    return boxes, edges


def _box_lines(operator: Operator) -> tuple[str, ...]:
    lines = [f"{operator.number} {operator.detail}", operator.cost]
    if operator.remembers is not None:
        lines.append(f"remembers {operator.remembers}")
    if operator.rows is not None and operator.bytes is not None:
        lines.append(_state_text(operator.rows, operator.bytes))
    return tuple(lines)
