"""What a network knows: model files, weights from elsewhere, and the account of every tensor that was loaded."""
