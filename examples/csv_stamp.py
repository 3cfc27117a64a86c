"""A batch job in ten lines: read a CSV, add the time of processing, write a CSV.

bourne jobs start examples/csv_stamp.py stamp source=orders.csv target=stamped.csv
"""

import bourne
from bourne.batch import chunk

app = bourne.App("csv_stamp")


@app.job
def stamp(source: str, target: str):
    return chunk("stamp", read=source, process="SELECT *, now() AS processed_at FROM input", write=target)
