"""What every room stands on: files, errors, options, chance. No picture, network or run is named here."""
