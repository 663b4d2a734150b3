"""Client sockets and the sessions behind them."""
