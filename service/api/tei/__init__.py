"""What clients of Hugging Face's Text Embeddings Inference (TEI) ask: embeddings, predictions, ranks, of one model."""
