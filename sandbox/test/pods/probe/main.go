// Command probe is the program in the images of the pod suite: it runs a script
// that does, step by step, what the case wants a container to do, and prints
// what a container sees in words that are the same on every node. It is one
// static file, because an image has nothing else.
//
// A script is commands separated by semicolons; words are separated by blanks,
// and '…' keeps blanks and semicolons together. Start with commands.
package main

import (
	"fmt"
	"os"
	"strings"
)

// commands are the words of the language, with the number of arguments that each
// needs at least.
func commands() map[string]command {
	return map[string]command{
		// Output.
		"echo":  {0, echo},
		"err":   {0, echoError},
		"print": {1, printRaw},   // without a newline
		"flood": {2, flood},      // N lines of LENGTH bytes
		"tick":  {1, tick},       // a numbered line each DURATION, for ever
		"lines": {1, countLines}, // of standard input, until its end

		// Ending.
		"exit":   {1, exit},
		"crash":  {0, crash},      // SIGSEGV that nobody handles
		"trap":   {2, trap},       // SIGNAL CODE: says what it got and exits
		"ignore": {1, ignore},     // SIGNAL
		"untrap": {1, untrap},     // SIGNAL: what the kernel does by itself
		"signal": {2, sendSignal}, // SIGNAL PID
		"sleep":  {1, sleep},
		"wait":   {0, waitForEver},
		"retry":  {2, retry}, // FILE N: exits 1 until it was called N times
		"alloc":  {1, alloc}, // MiB, and touches them
		"spawn":  {0, spawn}, // a daemon: a session of its own, and we are not its parent

		// Files.
		"cat":       {1, cat},
		"ls":        {1, list},
		"stat":      {1, stat},
		"mount":     {1, mount}, // kind of file system, and whether it can be written
		"write":     {1, write}, // FILE WORDS…
		"append":    {1, appendTo},
		"mkdir":     {1, mkdir},
		"rm":        {1, remove},
		"has":       {1, has},
		"wait-file": {1, waitFile},
		"wait-gone": {1, waitGone},
		"wait-text": {2, waitText}, // FILE TEXT: until it is all that is in it

		// The process.
		"env":        {0, environment}, // of these names, or all names
		"args":       {0, arguments},
		"id":         {0, identity},
		"groups":     {0, groups},
		"cwd":        {0, workingDirectory},
		"hostname":   {0, hostname},
		"pid":        {0, processID},
		"procs":      {0, processes}, // the names of all that can be seen
		"namespaces": {0, namespaces},
		"tty":        {0, terminal},
		"wait-tty":   {0, waitTerminal}, // until somebody has said how large it is
		"limits":     {1, cgroupLimit},
		"token":      {1, token}, // the claims of a service account's token

		// Network.
		"serve":   {1, serve},     // PORT [FILE]: HTTP; /ready is 200 once FILE exists
		"listen":  {1, listen},    // PORT: TCP, says hello
		"grpc":    {1, grpcServe}, // PORT: the health service
		"get":     {1, get},       // URL [until STATUS]
		"dial":    {1, dial},      // HOST:PORT
		"resolve": {1, resolve},   // NAME
		"api":     {1, apiGet},    // PATH of the API server, with the pod's token
	}
}

type command struct {
	needs int
	run   func(args []string) error
}

func main() {
	known := commands()
	for _, script := range os.Args[1:] {
		for _, words := range parse(script) {
			c, ok := known[words[0]]
			if !ok || len(words)-1 < c.needs {
				fmt.Fprintf(os.Stderr, "probe: %q is no command\n", strings.Join(words, " "))
				os.Exit(2)
			}
			if err := c.run(words[1:]); err != nil {
				fmt.Printf("%s: %s\n", words[0], say(err))
			}
		}
	}
}

// parse splits a script into commands of one word at least.
func parse(script string) [][]string {
	var commands [][]string
	var words []string
	var word strings.Builder
	quoted, inWord := false, false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	for _, r := range script {
		switch {
		case r == '\'':
			quoted, inWord = !quoted, true
		case quoted:
			word.WriteRune(r)
		case r == ';':
			endCommand()
		case r == ' ' || r == '\n' || r == '\t':
			endWord()
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	endCommand()
	return commands
}
