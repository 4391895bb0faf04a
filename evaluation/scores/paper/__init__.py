"""The paper's method (Immuno-VLM, ICML 2026), phase by phase."""
