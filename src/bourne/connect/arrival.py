"""The time of arrival, for records that do not say when they were: those of senders who push."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from bourne.log.catalog import LogInfo
from bourne.ports import Clock
from bourne.schema import Schema


class Arrival:
    """Fills in the time column of a log. `schema` is what a record has to say: its time it need not."""

    def __init__(self, log: LogInfo, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self.schema = Schema(
            tuple(replace(c, nullable=True) if c.name == log.time else c for c in log.schema.columns)
        )

    def fill(self, table: pa.Table) -> pa.Table:
        """Return records with the time of now where they do not have one."""
        if self._log.time is None:
            return table
        wanted = self._log.schema.to_arrow().field(self._log.time).type
        # Cut to what the column's unit can say.
        arrived = pa.scalar(self._clock.now_us(), pa.timestamp("us")).cast(wanted, safe=False)
        if self._log.time not in table.column_names:
            return table.append_column(self._log.time, pa.repeat(arrived, table.num_rows))
        index = table.column_names.index(self._log.time)
        return table.set_column(index, self._log.time, pc.fill_null(table.column(index), arrived))
