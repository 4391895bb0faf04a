"""The maths: data, prototypes, selection, scores, metrics, boundary effects, benchmark, report. No Ray, no SQL."""
