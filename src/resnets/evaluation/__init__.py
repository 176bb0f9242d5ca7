"""What a network is worth: its outputs on pictures, figures with intervals, and the table they are kept in."""
