"""The engine on the CPU, against closed forms, scikit-learn and PyTorch."""
