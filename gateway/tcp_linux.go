package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// confirmed is how many bytes the system at the other end of a connection has taken. known: the own system can tell.
func confirmed(c net.Conn) (bytes uint64, known bool) {
	withSocket(c, func(socket int) {
		info, err := unix.GetsockoptTCPInfo(socket, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			bytes, known = info.Bytes_acked, true
		}
	})
	return bytes, known
}

// keepLittleUnsent has the system keep little that is not on its way yet. A connection for several requests goes as fast as before.
func keepLittleUnsent(c net.Conn) {
	withSocket(c, func(socket int) {
		_ = unix.SetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, socketBuffer) // or it keeps more
	})
}

// withSocket calls f with the socket beneath a connection, if there is one.
func withSocket(c net.Conn, f func(socket int)) {
	tcp, is := tcpOf(c).(syscall.Conn)
	if !is {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) }) // or it is closed
	}
}
