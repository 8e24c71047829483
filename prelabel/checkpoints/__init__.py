"""Model cards, downloads and the model version; the cards and the demo checkpoint lie here."""
