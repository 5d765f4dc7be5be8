// Command maas is the whole platform in one program: server, worker and command line client.
package main

import (
	"os"

	"maas/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
