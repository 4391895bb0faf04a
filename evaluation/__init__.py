"""The maths: data, antibodies, scores, metrics, boundary effects, benchmark, report. No Ray, no SQL."""
