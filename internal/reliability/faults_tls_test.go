package reliability

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/pgtest"
)

// authority is a certificate authority of a test's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{cert: template}
	a.pem, a.key = sign(t, template, a)
	return a
}

// sign makes a key and a certificate for it, in PEM.
func sign(t *testing.T, template *x509.Certificate, by *authority) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer := by.key
	if signer == nil { // by itself
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, signer)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// serverTLS returns what a server at 127.0.0.1 needs.
func (a *authority) serverTLS(t *testing.T) *pgtest.TLS {
	t.Helper()
	cert, key := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return &pgtest.TLS{Cert: cert, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

// file writes the authority's certificate to a file.
func (a *authority) file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.crt")
	require.NoError(t, os.WriteFile(path, a.pem, 0o600))
	return path
}

func verified(t *testing.T, dsn, host string, by *authority) *pgx.ConnConfig {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Host = net.JoinHostPort(host, u.Port())
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {by.file(t)}}.Encode()
	return listenTo(t, u.String())
}

// TestFaultTLS: verify-full lets a hub in that knows the server's authority, and no other; what ends the encrypted
// connection is announced as any other loss is.
func TestFaultTLS(t *testing.T) {
	right, wrong := newAuthority(t), newAuthority(t)
	server := pgtest.Private(t, pgtest.Options{
		TLS: right.serverTLS(t),
		HBA: "local all all trust\nhostssl all all all trust\nhostnossl all all all reject",
	})

	hub, _ := newFaultHub(t, pghub.Config{ListenConfig: verified(t, server.DSN(), "127.0.0.1", wrong)}, "t")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, hub.Start(t.Context()), &unknown)
	hub, _ = newFaultHub(t, pghub.Config{ListenConfig: verified(t, server.DSN(), "localhost", right)}, "t")
	var name x509.HostnameError
	require.ErrorAs(t, hub.Start(t.Context()), &name)

	pool := pgtest.Pool(t, server.DSN())
	proxy, through := faultProxy(t, server.DSN())
	hub, d := startFaultHub(t, pghub.Config{Pool: pool, ListenConfig: verified(t, through, "127.0.0.1", right)}, "t")
	d.expect(t, "connect", "subscribe t")
	var encrypted bool
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = $1", hub.Stats().PID).Scan(&encrypted))
	require.True(t, encrypted)

	const events = 300 // more than one TLS record
	for n := range events {
		require.NoError(t, hub.NotifyPayload(t.Context(), "t", fmt.Sprintf(`e%d:"%0900d"`, n, n)))
	}
	for n := range events {
		d.expect(t, fmt.Sprintf(`t=e%d:"%0900d"`, n, n))
	}
	for _, hurt := range []func(){
		func() { proxy.HalfClose(faultproxy.ToClient) }, // without a close_notify
		func() { proxy.Reset() },
		func() { swallow(proxy, faultproxy.ToClient) },
		func() { runSQL(t, server.DSN(), "SELECT pg_terminate_backend($1)", hub.Stats().PID) },
	} {
		hurt()
		lost := d.await(t, "disconnect").Advisory
		require.Error(t, lost.Err)
		d.await(t, "reconnect")
		require.NoError(t, hub.Notify(t.Context(), "t", nil, nil))
		d.await(t, "t=e")
	}
}
