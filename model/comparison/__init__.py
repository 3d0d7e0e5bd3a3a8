"""Every system on the same questions: tuned, trained, ranked and put into one report."""
