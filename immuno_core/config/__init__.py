"""The configuration of a benchmark or refinement, read from TOML and checked before anything is computed."""
