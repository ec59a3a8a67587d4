package gateway

import (
	"context"
	"net"
)

// socketBuffer is what the system is asked to keep for a client that does not read, in bytes; Linux takes it twice. Left alone
// it keeps some megabytes: a client would be found slow long after it is, and what it is sent would be old.
const socketBuffer = 64 << 10

type connKey struct{}

// ConnContext is for [http.Server.ConnContext]. With it the gateway keeps small what the system buffers for an event stream, as
// it does by itself for a WebSocket.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// tcpConn is what the gateway wants of a [net.TCPConn].
type tcpConn interface {
	SetWriteBuffer(bytes int) error
	SetLinger(sec int) error
}

// tcpOf returns the TCP connection beneath a connection, through TLS and what else can be looked through; nil: none is found.
func tcpOf(c net.Conn) tcpConn {
	for {
		if tcp, is := c.(tcpConn); is {
			return tcp
		}
		over, is := c.(interface{ NetConn() net.Conn })
		if !is {
			return nil
		}
		c = over.NetConn()
	}
}

// keepLittle has the system keep little for a client that does not read.
func keepLittle(c net.Conn) {
	if tcp := tcpOf(c); tcp != nil {
		_ = tcp.SetWriteBuffer(socketBuffer) // or it keeps more
	}
}

// forgetAtClose says whether the system throws away, when the connection is closed, what the client has not got. Otherwise it
// keeps it for minutes.
func forgetAtClose(c net.Conn, forget bool) {
	seconds := -1
	if forget {
		seconds = 0
	}
	if tcp := tcpOf(c); tcp != nil {
		_ = tcp.SetLinger(seconds) // or it is kept
	}
}
