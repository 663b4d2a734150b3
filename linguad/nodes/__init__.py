"""Node sockets and the records behind them."""
