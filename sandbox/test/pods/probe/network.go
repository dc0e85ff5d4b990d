package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func serve(args []string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "served by", os.Getenv("HOSTNAME"))
	})
	mux.HandleFunc("/fail", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "as asked", http.StatusInternalServerError)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { time.Sleep(10 * time.Second) })
	mux.HandleFunc("/say", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked with", r.Method, r.Header.Get("X-Probe"), r.Host != "", strings.SplitN(r.UserAgent(), "/", 2)[0])
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) {
		if len(args) < 2 {
			return
		}
		if _, err := os.Stat(args[1]); err != nil {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	})
	return bound(http.ListenAndServe(":"+args[0], mux))
}

// bound ends the program when a port is taken, as servers do.
func bound(err error) error {
	fmt.Println(say(err))
	os.Exit(1)
	return nil
}

func listen(args []string) error {
	l, err := net.Listen("tcp", ":"+args[0])
	if err != nil {
		return bound(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(c, "hello")
		c.Close()
	}
}

func grpcServe(args []string) error {
	l, err := net.Listen("tcp", ":"+args[0])
	if err != nil {
		return bound(err)
	}
	server := grpc.NewServer()
	states := health.NewServer()
	for _, name := range args[1:] {
		states.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	grpc_health_v1.RegisterHealthServer(server, states)
	return server.Serve(l)
}

// get asks once, or until the status is the one that is named.
func get(args []string) error {
	client := &http.Client{Timeout: 5 * time.Second}
	for {
		status, body := ask(client, args[0], "")
		if len(args) < 3 || status == args[2] {
			fmt.Println(status, body)
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func ask(client *http.Client, url, bearer string) (status, body string) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return say(err), ""
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := client.Do(request)
	if err != nil {
		return unreachable(err), ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
	return strconv.Itoa(response.StatusCode), strings.TrimSpace(string(text))
}

// unreachable is why a connection was not made. Refused by a host and refused by
// a rule are one thing to who asks.
func unreachable(err error) string {
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
		return "no such host"
	}
	return say(err)
}

func dial(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err != nil {
		fmt.Println(unreachable(err))
		return nil
	}
	defer c.Close()
	text, _ := io.ReadAll(c)
	fmt.Println("connected", strings.TrimSpace(string(text)))
	return nil
}

// resolve prints how many addresses a name has; which they are is the node's.
func resolve(args []string) error {
	for _, name := range args {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		addresses, err := net.DefaultResolver.LookupHost(ctx, name)
		cancel()
		if err != nil {
			fmt.Println(name, unreachable(err))
			continue
		}
		fmt.Println(name, "has", len(addresses))
	}
	return nil
}

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func apiGet(paths []string) error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	server := "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	for _, path := range paths {
		status, _ := ask(client, server+path, string(token))
		fmt.Println(path, status)
	}
	return nil
}
