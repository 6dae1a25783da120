"""The venue Alpaca, paper accounts only: stocks and crypto for USD."""
