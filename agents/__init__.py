"""LangChain: chat models, prompts, proposal, and the refinement loop with its sessions. Never sees the test split."""
