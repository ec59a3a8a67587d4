package gateway_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// rawSocket is a WebSocket by hand: cheap enough for ten thousands of them, and able to misbehave.
type rawSocket struct {
	conn *net.TCPConn
	in   *bufio.Reader
}

// dialRaw opens a WebSocket. readBuffer is that of the system and of Go, in bytes.
func (f *fixture) dialRaw(path string, readBuffer int) *rawSocket {
	f.t.Helper()
	s, err := f.tryDialRaw(path, readBuffer)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

func (f *fixture) tryDialRaw(path string, readBuffer int) (*rawSocket, error) {
	host := strings.TrimPrefix(f.http.URL, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	if err := tcp.SetReadBuffer(readBuffer); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(tcp, "GET /pg%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path, host)
	if err != nil {
		return nil, err
	}
	s := &rawSocket{tcp, bufio.NewReaderSize(tcp, min(readBuffer, 4096))}
	resp, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return s, nil
}

const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
)

// readFrame returns the next frame; data is valid until the next call.
func (s *rawSocket) readFrame(buf []byte) (op byte, data []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(s.in, head[:2]); err != nil {
		return 0, nil, err
	}
	op = head[0] & 0xf
	size := int(head[1])
	switch size {
	case 126:
		if _, err := io.ReadFull(s.in, head[:2]); err != nil {
			return 0, nil, err
		}
		size = int(binary.BigEndian.Uint16(head[:2]))
	case 127:
		if _, err := io.ReadFull(s.in, head[:8]); err != nil {
			return 0, nil, err
		}
		size = int(binary.BigEndian.Uint64(head[:8]))
	}
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	_, err = io.ReadFull(s.in, buf[:size])
	return op, buf[:size], err
}

// readText returns the next message. There may be pings before it.
func (s *rawSocket) readText(buf []byte) ([]byte, error) {
	for {
		if op, data, err := s.readFrame(buf); err != nil || op == opText {
			return data, err
		}
	}
}

// code reads on until the connection ends, and returns the code of the closing frame, 0 if there was none. texts is
// called with every message.
func (s *rawSocket) code(texts func([]byte)) int {
	if err := s.conn.SetReadDeadline(time.Now().Add(waiting)); err != nil {
		return 0
	}
	buf := make([]byte, 64<<10)
	for {
		op, data, err := s.readFrame(buf)
		switch {
		case err != nil:
			return 0
		case op == opText && texts != nil:
			texts(data)
		case op == opClose && len(data) >= 2:
			_, _ = s.conn.Write([]byte{0x88, 0x80, 0, 0, 0, 0}) // an answer, empty and masked
			return int(binary.BigEndian.Uint16(data))
		}
	}
}

// sendFrame sends one frame, masked with zeros.
func (s *rawSocket) sendFrame(op byte, data string) error {
	head := []byte{0x80 | op, 0x80 | byte(min(len(data), 126))}
	if len(data) >= 126 {
		head = binary.BigEndian.AppendUint16(head, uint16(len(data)))
	}
	_, err := s.conn.Write(append(append(head, 0, 0, 0, 0), data...))
	return err
}
