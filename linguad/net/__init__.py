"""The trio edges of linguad: sockets, proxies, HTTP and WebSocket connections, supervision."""
