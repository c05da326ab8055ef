"""PyTorch's weights, in and out, as safetensors."""
