// Command idp is an OpenID Connect provider that others wrote (zitadel/oidc, package op, with its example storage), for the test of sign-in by foreign issuers: idp ADDRESS CLIENT SECRET REDIRECT.
//
// It is a module of its own, so that what it needs does not become a need of the product.
package main

import (
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	address, issuer := os.Args[1], "http://"+os.Args[1]+"/"
	storage.RegisterClients(storage.WebClient(os.Args[2], os.Args[3], os.Args[4]))
	h := exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), slog.New(slog.NewTextHandler(os.Stderr, nil)), false)
	s := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	if err := s.ListenAndServe(); err != nil {
		slog.Error("stopped", "error", err)
		os.Exit(1)
	}
}
