"""The maths: data, prototypes, selection, scores, metrics, boundary effects, benchmark and report. Knows no Ray, no SQL."""
