"""Images for words: sources, ledger, credits. The only user of the network."""
