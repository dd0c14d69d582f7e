"""What clients of OpenAI's interface ask: embeddings, and which models there are."""
