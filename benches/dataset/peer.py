"""DuckDB joining a journal's feedback to its decisions: events a second, and the peak of resident memory in MiB."""

import os
import resource
import sys
import time

import duckdb

what, journal = sys.argv[1:]
connection = duckdb.connect()
connection.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
connection.execute("SET memory_limit = '8GB'")
decisions = f"read_parquet('{journal}/decisions/*/*.parquet', hive_partitioning = false)"
feedback = f"read_parquet('{journal}/feedback/*/*.parquet', hive_partitioning = false)"

started = time.perf_counter()
# The rows of a decision stand together; of a list of structs of them, DuckDB makes a third as many a second.
joined = connection.sql(
    f"""
    SELECT {"d.decision_id, d.time" if what == "join" else "d.*"},
           f.feedback_id, f.occurred, f.event, f.value, f.item, f."position"
    FROM {decisions} d LEFT JOIN {feedback} f ON d.decision_id = f.decision_id
    ORDER BY d.time, d.decision_id
    """
)
rows = sum(batch.num_rows for batch in joined.to_arrow_reader(8192))
seconds = time.perf_counter() - started
# One feedback event a decision, which the simulator writes.
print(2 * rows / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
