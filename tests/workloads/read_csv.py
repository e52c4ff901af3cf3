import io

import numpy
import pandas

rows = "".join(f"{n % 3},{n * 7 % 11},{'xy'[n % 2]},2026-01-{n % 28 + 1:02}\n" for n in range(1000))
frame = pandas.read_csv(io.StringIO(f"group,value,kind,day\n{rows}"), parse_dates=["day"])
print(frame.groupby(["group", "kind"]).agg({"value": ["sum", "mean", "std"]}).to_string())
print(frame.describe(include="all").to_string())
print(frame.set_index("day")["value"].resample("W").mean().round(3).to_string())
print(pandas.merge(frame.head(4), frame.tail(4), on="kind", how="outer").to_json(orient="records"))
print(pandas.date_range("2026-03-28", periods=3, tz="Europe/Berlin"))
# The threads of OpenBLAS have to start anew.
matrix = numpy.random.default_rng(1).random((400, 400))
print(round(float((matrix @ matrix).sum()), 3), numpy.linalg.matrix_rank(matrix))
print(numpy.linalg.norm(numpy.linalg.inv(matrix) @ matrix - numpy.eye(400)) < 1e-6)
