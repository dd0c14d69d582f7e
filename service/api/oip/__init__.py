"""The Open Inference Protocol V2, as Triton and KServe speak it: over HTTP and over gRPC."""
