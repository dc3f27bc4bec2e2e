"""What the conversions of several systems use."""
