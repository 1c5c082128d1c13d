"""The export in model/: a learner, its ONNX model, and the manifest that describes both."""
