// Command load keeps a number of gRPC calls in flight and prints what it saw as one JSON document, at the end or once it
// is interrupted. It is for benchmarks: requests and answers stay bytes, so that it costs as little as a client can.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*message.(*[]byte))}, nil
}

func (raw) Unmarshal(content mem.BufferSlice, message any) error {
	*message.(*[]byte) = content.Materialize()
	return nil
}

var _ encoding.CodecV2 = raw{}

type options struct {
	method      string
	requests    [][]byte
	inFlight    int
	connections int
	rate        float64
	lasts       time.Duration
}

type report struct {
	Calls     int     `json:"calls"`
	Errors    int     `json:"errors"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P90       float64 `json:"p90_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Max       float64 `json:"max_ms"`
}

func main() {
	addresses := flag.String("address", "127.0.0.1:9191", "where to call: host:port or unix:///path, with commas between")
	file := flag.String("requests", "", "a file of requests, each after its length in 4 bytes, that are sent in turn")
	asked := options{}
	flag.StringVar(&asked.method, "method", "/envoy.service.auth.v3.Authorization/Check", "the full method name")
	flag.IntVar(&asked.inFlight, "in-flight", 16, "calls at once")
	flag.IntVar(&asked.connections, "connections", 2, "connections that share them, dealt to the addresses")
	flag.Float64Var(&asked.rate, "rate", 0, "calls a second in all; 0 is as fast as answers come")
	flag.DurationVar(&asked.lasts, "for", 5*time.Second, "how long")
	flag.Parse()
	content, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	for len(content) > 0 {
		end := 4 + binary.BigEndian.Uint32(content)
		asked.requests, content = append(asked.requests, content[4:end]), content[end:]
	}
	untilInterrupted, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if err := json.NewEncoder(os.Stdout).Encode(run(untilInterrupted, strings.Split(*addresses, ","), asked)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addresses []string, asked options) report {
	latencies, errors := make([][]time.Duration, asked.inFlight), make([]int, asked.inFlight)
	connections := make([]*grpc.ClientConn, asked.connections)
	for i := range connections {
		connection, err := grpc.NewClient(addresses[i%len(addresses)],
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
		if err != nil {
			log.Fatal(err)
		}
		defer connection.Close()
		connections[i] = connection
	}
	var callers sync.WaitGroup
	began := time.Now()
	for i := range asked.inFlight {
		callers.Go(func() {
			latencies[i], errors[i] = asked.call(ctx, connections[i%len(connections)], began, i)
		})
	}
	callers.Wait()
	return summarize(slices.Concat(latencies...), errors, time.Since(began))
}

// call keeps one call in flight. With a rate, latency counts from when a call was due, so that a server which stalls
// is not spared the calls that it kept from being sent.
func (o options) call(
	ctx context.Context, connection *grpc.ClientConn, began time.Time, caller int,
) (took []time.Duration, failed int) {
	for n := caller; ; n += o.inFlight {
		due := time.Now()
		if o.rate > 0 {
			due = began.Add(time.Duration(float64(n) / o.rate * float64(time.Second)))
			time.Sleep(time.Until(due))
		}
		if due.Sub(began) > o.lasts || ctx.Err() != nil {
			return took, failed
		}
		var answer []byte
		request := &o.requests[n%len(o.requests)]
		if err := connection.Invoke(context.Background(), o.method, request, &answer); err != nil || len(answer) == 0 {
			log.Printf("no answer: %v", err)
			failed++
		}
		took = append(took, time.Since(due))
	}
}

func summarize(took []time.Duration, errors []int, lasted time.Duration) report {
	if len(took) == 0 {
		return report{}
	}
	slices.Sort(took)
	at := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))].Microseconds()) / 1000
	}
	failed := 0
	for _, count := range errors {
		failed += count
	}
	return report{len(took), failed, float64(len(took)) / lasted.Seconds(), at(.5), at(.9), at(.99), at(.999), at(1)}
}
