package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestDatabasesAreSeparate(t *testing.T) {
	var first string
	t.Run("used", func(t *testing.T) {
		first = Database(t)
		second := Database(t)
		require.NotEqual(t, first, second)
		_, err := Pool(t, first).Exec(t.Context(), "CREATE TABLE mine ()")
		require.NoError(t, err)
		require.True(t, value[bool](t, second, "SELECT to_regclass('mine') IS NULL"))
	})
	_, err := pgx.Connect(t.Context(), first)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "3D000", refused.Code, "it was dropped when the test had ended")
}

func TestDropDisconnects(t *testing.T) {
	dsn, drop, err := Shared(t).CreateDatabase(t.Context())
	require.NoError(t, err)
	conn := Conn(t, dsn)
	require.NoError(t, drop(t.Context()))
	require.NoError(t, drop(t.Context()), "dropped already")
	require.Error(t, conn.Ping(t.Context()))
}

func TestSharedIsOne(t *testing.T) {
	require.Same(t, Shared(t), Shared(t))
}

// certificate makes one for 127.0.0.1.
func certificate(t *testing.T) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}
