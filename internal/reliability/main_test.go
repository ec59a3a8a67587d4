package reliability

import (
	"os"
	"testing"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(frozenEnv); dsn != "" {
		listenUntilKilled(dsn)
		return
	}
	pgtest.Main(m)
}
