package s3_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/sandbox/internal/s3"
)

// BenchmarkThroughput puts and gets objects through the enforcing front and at
// bare versitygw, turn by turn, so that what else the machine does hits both.
// It reports objects a second of each, and the ratio. The role has a boundary,
// a session policy and a bucket with a policy: the most that there is to decide.
//
//	go test -bench Throughput -benchtime 10s ./internal/s3
func BenchmarkThroughput(b *testing.B) {
	w := ownWorld(b)
	bareAddress := startBare(b, w)
	bare := awss3.NewFromConfig(w.config(credentials.NewStaticCredentialsProvider("bare", "baresecret", "")), func(o *awss3.Options) { o.BaseEndpoint = &bareAddress })
	w.bucket(b, "bench")
	if _, err := bare.CreateBucket(b.Context(), &awss3.CreateBucketInput{Bucket: aws.String("bench")}); err != nil {
		b.Fatal(err)
	}
	all := policy(`{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::bench/*"}`,
		`{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`)
	arn := w.role(b, "bench", trust("StringEquals", "union:executor"), all)
	as, err := w.assume(arn, w.keys.token("union:executor").signed(b), all)
	if err != nil {
		b.Fatal(err)
	}
	text := policy(`{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::bench","arn:aws:s3:::bench/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}`)
	if _, err := w.s3As(w.adminKey()).PutBucketPolicy(b.Context(), &awss3.PutBucketPolicyInput{Bucket: aws.String("bench"), Policy: &text}); err != nil {
		b.Fatal(err)
	}
	front := w.s3As(as)

	for _, size := range []int{1 << 10, 1 << 20} {
		body := make([]byte, size)
		rand.Read(body)
		for _, operation := range []string{"put", "get"} {
			b.Run(fmt.Sprintf("%s/%dKiB", operation, size>>10), func(b *testing.B) {
				var took [2]time.Duration
				var done [2]int
				one := func(client *awss3.Client, n int64) error {
					key := aws.String(fmt.Sprintf("%d/%d", size, n%64))
					if operation == "put" {
						_, err := client.PutObject(b.Context(), &awss3.PutObjectInput{Bucket: aws.String("bench"), Key: key, Body: bytes.NewReader(body)})
						return err
					}
					out, err := client.GetObject(b.Context(), &awss3.GetObjectInput{Bucket: aws.String("bench"), Key: key})
					if err != nil {
						return err
					}
					defer out.Body.Close()
					_, err = io.Copy(io.Discard, out.Body)
					return err
				}
				clients := [2]*awss3.Client{bare, front}
				for _, client := range clients { // what is got has to be there
					for n := range int64(64) {
						if _, err := client.PutObject(b.Context(), &awss3.PutObjectInput{Bucket: aws.String("bench"), Key: aws.String(fmt.Sprintf("%d/%d", size, n)), Body: bytes.NewReader(body)}); err != nil {
							b.Fatal(err)
						}
					}
				}
				// Turns of a quarter of a second or so, in random order.
				turn := max(1, b.N/20)
				b.ResetTimer()
				for left := b.N; left > 0; left -= turn {
					first := 0
					if coin, _ := rand.Int(rand.Reader, big.NewInt(2)); coin.Int64() == 1 {
						first = 1
					}
					for _, which := range []int{first, 1 - first} {
						n := min(turn, left)
						start := time.Now()
						if err := parallel(n, 4, func(i int64) error { return one(clients[which], i) }); err != nil {
							b.Fatal(err)
						}
						took[which] += time.Since(start)
						done[which] += n
					}
				}
				b.StopTimer()
				rate := func(which int) float64 { return float64(done[which]) / took[which].Seconds() }
				b.ReportMetric(rate(0), "bare/s")
				b.ReportMetric(rate(1), "front/s")
				b.ReportMetric(100*rate(1)/rate(0), "%ofbare")
			})
		}
	}
}

// parallel calls do n times, with so many at once.
func parallel(n, workers int, do func(int64) error) error {
	var next atomic.Int64
	failed := make(chan error, workers)
	for range workers {
		go func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					failed <- nil
					return
				}
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	var first error
	for range workers {
		if err := <-failed; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// startBare starts bare versitygw beside the world, with its certificate.
func startBare(tb testing.TB, w *world) string {
	tb.Helper()
	ports, err := freePorts(1)
	if err != nil {
		tb.Fatal(err)
	}
	dir := filepath.Join(w.dir, "bare")
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	p := &process{program: "bare", dir: dir, args: []string{"--dir", dir, "--address", ports[0], "--access", "bare", "--secret", "baresecret",
		"--tls-cert-file", w.pki.Path("serving.crt"), "--tls-private-key-file", w.pki.Path("serving.key")}}
	if err := w.start(p, "https://"+ports[0]+s3.HealthPath); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.stop)
	return "https://" + ports[0]
}
