package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/webhook"
)

// A receiver checks the signature, and goes by the ID. The bridge calls Send; here it is done by hand.
func Example() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		id, err := webhook.Verify(r.Header, body, 0, secret)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Println(id, string(body))
	}))
	defer receiver.Close()

	sink, err := webhook.New(webhook.Config{URL: receiver.URL, Secrets: []string{secret}})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	defer func() { _ = sink.Close(ctx) }()
	err = sink.Send(ctx, []*bridge.Message{{ID: "1700000000000.7.5", Body: []byte(`{"order":7}`)}})
	fmt.Println(err)
	// Output:
	// 1700000000000.7.5 {"order":7}
	// <nil>
}
