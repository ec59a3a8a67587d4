package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/pghub/pghub/internal/pgtest"
)

// database is where the trials run.
type database struct {
	server *pgtest.Server
	dsn    string // without encryption
	tlsDSN string // with; "" if the server has none
}

// startDatabase starts a server of our own, with TLS where that is possible.
func startDatabase(ctx context.Context) (*database, error) {
	settings := map[string]string{"max_connections": "300"}
	cert, key, err := certificate()
	if err != nil {
		return nil, err
	}
	server, err := pgtest.Start(ctx, pgtest.Options{Settings: settings, TLS: &pgtest.TLS{Cert: cert, Key: key}})
	if err == nil {
		return &database{server, withSSLMode(server.DSN(), "disable"), withSSLMode(server.DSN(), "require")}, nil
	}
	server, err = pgtest.Start(ctx, pgtest.Options{Settings: settings}) // a container does without TLS
	if err != nil {
		return nil, err
	}
	return &database{server, server.DSN(), ""}, nil
}

func withSSLMode(dsn, mode string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn // nothing can be connected to, which says why
	}
	query := u.Query()
	query.Set("sslmode", mode)
	u.RawQuery = query.Encode()
	return u.String()
}

// certificate is one that nobody vouches for.
func certificate() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return cert, key, nil
}
