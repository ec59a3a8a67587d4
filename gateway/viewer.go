package gateway

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
)

//go:embed viewer client/client.js
var viewerFiles embed.FS

// clientPage is the client for browsers, as a module. Pages of the origins that may connect may load it.
var clientPage = newPage("text/javascript; charset=utf-8", embedded("client/client.js"))

func embedded(name string) []byte {
	text, err := viewerFiles.ReadFile(name)
	if err != nil {
		panic(err) // never: it is in the program
	}
	return text
}

var viewerPage = template.Must(template.ParseFS(viewerFiles, "viewer/index.html"))

// viewerRoutes serves the page at / and what it is made of. All its addresses are relative: it works under any prefix.
func (g *Gateway) viewerRoutes(mux *http.ServeMux) {
	mux.Handle("GET /viewer/style.css", viewerHeaders(newPage("text/css; charset=utf-8", embedded("viewer/style.css")))) // not the template
	mux.Handle("GET /viewer/viewer.js", viewerHeaders(newPage("text/javascript; charset=utf-8", embedded("viewer/viewer.js"))))
	var text bytes.Buffer
	if err := viewerPage.Execute(&text, struct{ Publish, Replay bool }{len(g.cfg.Publish) > 0, g.past != nil}); err != nil {
		panic(err) // never: it is in the program
	}
	mux.Handle("GET /{$}", viewerHeaders(newPage("text/html; charset=utf-8", text.Bytes())))
}

// viewerHeaders keep the page to itself: no other site's scripts in it, nor it in another site's frame.
func viewerHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "+
			"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
