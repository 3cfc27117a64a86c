"""From an app's views to what runs them: bound, compiled, and each a relation for those that read it.

Nothing is made on disk here: everything that can be wrong with the text of a view is said before. A version that the app
does not declare any more is bound again from what is kept of it, if all that its rows depend on is still the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bourne.app import App, ViewDefinition, error_log_name, late_log_name
from bourne.engine.compile import compile_circuit
from bourne.engine.explain import growth_warning
from bourne.engine.kernels.stage import Databases
from bourne.engine.snapshot import ENGINE_VERSION
from bourne.errors import DefinitionError, GrowingState, SqlError
from bourne.log.catalog import LogInfo
from bourne.log.relation import relation_schema
from bourne.sql.bind import bind
from bourne.sql.emit import split_emit
from bourne.sql.plan import BoundQuery, relations
from bourne.sql.text import words_of
from bourne.views.catalog import ViewInfo


@dataclass(frozen=True, slots=True)
class Compiled:
    """A view, not yet of any version; its query; and a warning, if its state grows for ever and it did not say so."""

    info: ViewInfo
    query: BoundQuery
    growing: GrowingState | None


class Compiling:
    """Compiles the views of an app for a data folder."""

    def __init__(self, app: App, folder: Path, database: Databases) -> None:
        self._app = app
        self._folder = folder
        self._database = database

    def views(self, known: Mapping[str, LogInfo]) -> list[Compiled]:
        """Compile the views over the logs and tables that are known, those that others read before those.

        Raises:
            SqlError, DefinitionError: names the view, and the place in its text.
        """
        left, done, relations = dict(self._app.views), list[Compiled](), dict(known)
        while left:
            name = next((name for name in left if not _may_read(left[name], left)), None)
            view = self._view(left[name], relations) if name else self._any(left, relations)
            relations[view.info.name] = view.info.output
            done.append(view)
            del left[view.info.name]
        return done

    def _any(self, left: Mapping[str, ViewDefinition], known: Mapping[str, LogInfo]) -> Compiled:
        """Compile the first of some views that does not read the others, though their names are in its text."""
        errors = []
        for view in left.values():
            try:
                return self._view(view, known)
            except SqlError as error:
                errors.append(error)
        raise DefinitionError(
            f"the views {', '.join(left)} cannot be put in an order in which none reads a later one",
            where=f"app {self._app.name!r}", found=str(errors[0]).replace("\n", "\n    "),
            hint="a view may read logs, and views that do not read it",
        ) from errors[0]  # fmt: skip

    def _view(self, view: ViewDefinition, known: Mapping[str, LogInfo]) -> Compiled:
        functions = self._app.functions
        schemas = {name: relation_schema(info) for name, info in known.items()}
        query = bind(view.sql, schemas, functions=functions.values(), view=view.name)
        if view.function is not None:
            query = replace(query, schema=view.function.schema, function=view.function)
        inputs = {name: info for name, info in known.items() if name in relations(query.plan)}
        circuit = compile_circuit(query, self._database, sql=view.sql, inputs=inputs, view=view.name)
        growth = None if view.grows else growth_warning(view.name, circuit, inputs)
        words = words_of(view.sql)
        called = {name: udf.identity for name, udf in functions.items() if name.casefold() in words}
        if view.function is not None:
            called = {"fn": view.function.identity}
        info = ViewInfo(
            view.name, 0, view.sql, tuple(inputs.values()), query.schema, circuit.changes, self._folder,
            functions=called, on_error=view.on_error,
            bounds=tuple((query.schema.names[column], text) for column, text in circuit.output_bounds),
        )  # fmt: skip
        return Compiled(info, query, None if growth is None else GrowingState(growth, view=view.name))

    def bind_version(self, info: ViewInfo) -> BoundQuery:
        """Bind a version as its folder describes it; its inputs are to be as they are now.

        Raises:
            DefinitionError: it cannot be run any more; says why.
        """
        if info.engine != ENGINE_VERSION:
            raise _not_run(info, f"engine {ENGINE_VERSION}", f"made by engine {info.engine}")
        called, function = [], None
        for name, identity in info.functions.items():
            udf, declared = self._app.functions.get(name), self._app.views.get(info.name)
            if udf is not None and udf.identity == identity:
                called.append(udf)
            elif (
                declared is not None
                and declared.function is not None
                and declared.function.identity == identity
            ):
                function = declared.function
            else:
                raise _not_run(info, f"the function {name!r} as it was", "another one, or none")
        inputs = {each.name: each for each in info.inputs}
        schemas = {name: relation_schema(each) for name, each in inputs.items()}
        query = bind(info.sql, schemas, functions=called, view=info.name)
        if function is not None:
            query = replace(query, schema=function.schema, function=function)
        circuit = compile_circuit(query, self._database, sql=info.sql, inputs=inputs, view=info.name)
        if (query.schema, circuit.changes) != (info.schema, info.changes):
            raise _not_run(info, "the columns that it has", "other ones")
        return query


def _not_run(info: ViewInfo, expected: str, found: str) -> DefinitionError:
    return DefinitionError(
        f"version {info.version} of view {info.name!r} cannot be run any more", where=f"view {info.name!r}",
        expected=expected, found=found,
        hint="run it with the app that declares it (--file app.py)" if info.functions else None,
    )  # fmt: skip


def _may_read(view: ViewDefinition, others: Iterable[str]) -> bool:
    """Say whether a view's text has the name of another one."""
    words = words_of(view.sql)
    return any(other.casefold() in words for other in others if other != view.name)


def side_log_owners(app: App) -> dict[str, str]:
    """Return the views by the names of the logs that they put records into, which they go on without.

    Raises:
        SqlError: a view's EMIT clause is wrong.
        DefinitionError: such a name is taken.
    """
    owners: dict[str, str] = {}
    taken = {name.casefold(): name for name in (*app.logs, *app.tables, *app.views)}
    for view in app.views.values():
        closes = split_emit(view.sql, view=view.name)[1].closes
        names = [error_log_name(view.name)] if closes or view.on_error == "log" else []
        for name in [*names, late_log_name(view.name)] if closes else names:
            if name.casefold() in taken:
                raise DefinitionError(
                    f"view {view.name!r} needs a log {name!r}, but that name is taken (SQL ignores case)",
                    where=f"app {app.name!r}", found=taken[name.casefold()], hint="choose another name",
                )  # fmt: skip
            owners[name] = view.name
    return owners
