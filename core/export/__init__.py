"""Export of finished runs to peft, timm and ONNX, and import of adapters."""
