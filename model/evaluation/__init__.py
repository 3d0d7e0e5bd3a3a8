"""The offline evaluation protocol: what is asked, how answers are ranked, how figures are made."""
