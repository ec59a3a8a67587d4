package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, pool := newCertificate(t, dir)
	p := start(t, []string{"DATABASE_URL=" + pgtest.Database(t)}, "serve", "--listen", "127.0.0.1:0", "--topics", "*",
		"--tls-cert", cert+".crt", "--tls-key", cert+".key")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	ready(t, client, "https://"+p.address)
	ws, _, err := websocket.Dial(within(t), "https://"+p.address+"/ws", &websocket.DialOptions{HTTPClient: client})
	require.NoError(t, err)
	require.NoError(t, ws.Write(within(t), websocket.MessageText, []byte(`{"op":"ping"}`)))
	for answer := ""; answer != `{"op":"pong"}`; { // before it, an advisory perhaps
		_, data, err := ws.Read(within(t))
		require.NoError(t, err)
		answer = string(data)
	}
	require.NoError(t, ws.CloseNow())
}

var serial atomic.Int64 // of the certificates of the tests

// newCertificate writes one for 127.0.0.1; the files end in .crt and .key.
func newCertificate(t *testing.T, dir string) (path string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	path = filepath.Join(dir, "server")
	require.NoError(t, os.WriteFile(path+".crt", crt, 0o600))
	require.NoError(t, os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(crt))
	return path, pool
}

// A certificate is renewed without a restart, and a broken one does no harm.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, _ := newCertificate(t, dir)
	p := start(t, []string{"DATABASE_URL=" + pgtest.Database(t)}, "serve", "--listen", "127.0.0.1:0", "--topics", "*",
		"--tls-cert", cert+".crt", "--tls-key", cert+".key")
	served := func() int64 {
		conn, err := tls.Dial("tcp", p.address, &tls.Config{InsecureSkipVerify: true}) // it is looked at, not believed
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	becomes := func(number int64) {
		t.Helper()
		require.Eventually(t, func() bool { return served() == number }, waiting, 5*time.Millisecond)
	}
	require.Equal(t, serial.Load(), served())

	require.NoError(t, os.Remove(cert+".key"))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.said(), "was not read again") }, waiting, 5*time.Millisecond)
	require.Equal(t, serial.Load(), served(), "the old one")

	newCertificate(t, dir) // by itself
	becomes(serial.Load())
	newCertificate(t, dir)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	becomes(serial.Load())
	p.end(bothSignals[0])
	require.NoError(t, p.err)
}

// Only who shows a certificate of the named authority is let in.
func TestCertificatesOfClients(t *testing.T) {
	cert, pool := newCertificate(t, t.TempDir())
	own, _ := newCertificate(t, t.TempDir())
	foreign, _ := newCertificate(t, t.TempDir())
	p := start(t, []string{"DATABASE_URL=" + pgtest.Database(t)}, "serve", "--listen", "127.0.0.1:0", "--topics", "*",
		"--tls-cert", cert+".crt", "--tls-key", cert+".key", "--tls-client-ca", own+".crt")
	for shown, in := range map[string]bool{own: true, foreign: false, "": false} {
		cfg := &tls.Config{RootCAs: pool}
		if shown != "" {
			pair, err := tls.LoadX509KeyPair(shown+".crt", shown+".key")
			require.NoError(t, err)
			cfg.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
		resp, err := client.Get("https://" + p.address + "/healthz")
		require.Equal(t, in, err == nil, "%s: %v", shown, err)
		if err == nil {
			require.NoError(t, resp.Body.Close())
		}
		client.CloseIdleConnections()
	}
}
