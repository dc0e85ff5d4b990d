package executor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
)

// task is the program of the tests' pods: what Flyte's a0 is to the executor, with
// a script instead of a function. It is given the attempt's folder and steps.
func task(args []string) int {
	store := bucket.New(config.Storage{
		Region: os.Getenv("AWS_REGION"), Endpoint: os.Getenv("AWS_ENDPOINT_URL_S3"), STSEndpoint: os.Getenv("AWS_ENDPOINT_URL_STS"),
	}, os.Getenv)
	folder, steps := args[0], args[1:]
	for _, step := range steps {
		words := strings.Fields(step)
		number := func(i int) int { n, _ := strconv.Atoi(words[i]); return n }
		var err error
		switch words[0] {
		case "outputs":
			err = store.Put(context.Background(), folder+"/outputs.pb", nil)
		case "error": // CODE KIND ORIGIN
			err = writeError(store, folder, words[1], words[2], words[3])
		case "until": // the attempt N, from 0
			if attempt, _ := strconv.Atoi(os.Getenv("FLYTE_ATTEMPT_NUMBER")); attempt < number(1) {
				err = writeError(store, folder, "TryAgain", "RECOVERABLE", "USER")
				if err == nil {
					return 0
				}
			}
		case "longerror": // of N MiB
			var content []byte
			content, err = proto.Marshal(&core.ErrorDocument{Error: &core.ContainerError{Code: "Long", Message: strings.Repeat("x", number(1)<<20)}})
			if err == nil {
				err = store.Put(context.Background(), folder+"/error.pb", content)
			}
		case "exit":
			return number(1)
		case "say":
			fmt.Println(strings.Join(words[1:], " "))
		case "lines":
			for i := range number(1) {
				fmt.Println("line", i, strings.Repeat("x", 200))
			}
		case "env":
			for _, name := range words[1:] {
				fmt.Printf("%s=%s\n", name, os.Getenv(name))
			}
		case "cat":
			content, readErr := os.ReadFile(words[1])
			fmt.Printf("%d bytes in %s\n", len(content), words[1])
			err = readErr
		case "args":
			fmt.Println(strings.Join(args, "|"))
		case "has": // URI
			var there bool
			there, _, err = store.Exists(context.Background(), words[1])
			fmt.Println("there:", there)
		case "alloc": // MiB
			memory := make([]byte, number(1)<<20)
			for i := 0; i < len(memory); i += 4096 {
				memory[i] = 1
			}
			time.Sleep(30 * time.Second)
			fmt.Println(len(memory))
		case "sleep":
			var pause time.Duration
			if pause, err = time.ParseDuration(words[1]); err == nil {
				time.Sleep(pause)
			}
		case "killed": // in the first attempt
			if os.Getenv("FLYTE_ATTEMPT_NUMBER") == "0" {
				return 137
			}
		case "hang": // in the first attempt
			if os.Getenv("FLYTE_ATTEMPT_NUMBER") == "0" {
				time.Sleep(time.Hour)
			}
		case "wait":
			time.Sleep(time.Hour)
		default:
			err = fmt.Errorf("no step is called %q", words[0])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 3
		}
	}
	return 0
}

func writeError(store *bucket.Store, folder, code, kind, origin string) error {
	content, err := proto.Marshal(&core.ErrorDocument{Error: &core.ContainerError{
		Code: code, Message: "the author's code failed", Kind: core.ContainerError_Kind(core.ContainerError_Kind_value[kind]),
		Origin: core.ExecutionError_ErrorKind(core.ExecutionError_ErrorKind_value[origin]),
	}})
	if err != nil {
		return err
	}
	return store.Put(context.Background(), folder+"/error.pb", content)
}
