package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is what HTTPS is served with. It is read again when its files have changed: renewed certificates need no restart.
type certificate struct {
	cert, key string // files
	logger    *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	asOf   [2]time.Time // when the files of pair, or those that could not be read, were changed
	looked time.Time    // when that was looked at
}

// lookAgain is how often the files are looked at, while there are handshakes.
const lookAgain = time.Second

// newTLS reads what HTTPS is served with. clientCA names the file with the authorities of certificates that clients must
// show; "" is none.
func newTLS(cert, key, clientCA string, logger *slog.Logger) (*tls.Config, *certificate, error) {
	c := &certificate{cert: cert, key: key, logger: logger}
	if err := c.read(); err != nil {
		return nil, nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	cfg := &tls.Config{GetCertificate: c.current, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		text, err := os.ReadFile(clientCA)
		if err != nil {
			return nil, nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("--tls-client-ca: %s has no certificate", clientCA)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, c, nil
}

// current is tls.Config.GetCertificate.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) > lookAgain {
		c.reloadLocked(false)
	}
	return c.pair, nil
}

// reload reads the files whether they have changed or not.
func (c *certificate) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloadLocked(true)
}

func (c *certificate) reloadLocked(anyway bool) {
	if c.looked = time.Now(); !anyway && c.changed() == c.asOf {
		return
	}
	if err := c.readLocked(); err != nil {
		c.logger.Warn("the certificate was not read again; the old one is served", "error", err)
		return
	}
	c.logger.Info("the certificate was read again", "until", c.pair.Leaf.NotAfter)
}

func (c *certificate) read() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readLocked()
}

func (c *certificate) readLocked() error {
	c.asOf = c.changed()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.pair = &pair
	return nil
}

// changed is when the files were changed; zero: there is none.
func (c *certificate) changed() (at [2]time.Time) {
	for i, file := range []string{c.cert, c.key} {
		if info, err := os.Stat(file); err == nil {
			at[i] = info.ModTime()
		}
	}
	return at
}
