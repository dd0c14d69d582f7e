"""What is measured, and never judged by a test."""
