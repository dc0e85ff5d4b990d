package awsdouble

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tasks are the services of ECS, and the processes of those tasks whose images are
// mapped to a program of this machine. No other image is ever run.
type tasks struct {
	double   *Double
	programs map[string]string // by image

	lock     sync.Mutex
	services map[string]*ecsService // by ARN
	stopped  []*ecsTask             // for a while
	next     int                    // loopback address
	stopping bool
}

// taskProcess is a task that runs here. It has a loopback address of its own, so
// that several can listen on the same port.
type taskProcess struct {
	ip   string
	cmd  *exec.Cmd
	once sync.Once
	gone chan struct{}
}

// everywhere is an address to listen on that names no host.
var everywhere = regexp.MustCompile(`^(.*=)?(?:0\.0\.0\.0|\[::\])?(:[0-9]{1,5})$`)

// restartPause is between the end of a task's process and the start of the next.
const restartPause = time.Second

// start runs the first container whose image is mapped, with what the definition
// gives it; nil where there is none. ended is told when it ends by itself.
func (t *tasks) start(definition *taskDefinition, id string, ended func()) (*taskProcess, error) {
	for _, container := range definition.Containers {
		program := t.programs[container.Image]
		if program == "" {
			continue
		}
		if t.next == 0 {
			t.next = rand.N(250 * 250) // other doubles of this process have their own
		}
		t.next++
		ip := fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()%64, 1+t.next/250%250, 1+t.next%250)
		var args []string
		if len(container.EntryPoint) > 1 {
			args = append(args, container.EntryPoint[1:]...)
		}
		args = append(args, container.Command...)
		for i, arg := range args {
			args[i] = everywhere.ReplaceAllString(arg, "${1}"+ip+"${2}")
		}
		p := &taskProcess{ip: ip, cmd: exec.Command(program, args...), gone: make(chan struct{})}
		p.cmd.Dir = t.double.dir
		p.cmd.Env = []string{"PATH=/usr/bin:/bin"}
		for _, variable := range container.Environment {
			p.cmd.Env = append(p.cmd.Env, variable.Name+"="+everywhere.ReplaceAllString(variable.Value, "${1}"+ip+"${2}"))
		}
		p.cmd.SysProcAttr = ownGroup()
		output, err := os.OpenFile(t.logOf(id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the log of a task: %w", err)
		}
		p.cmd.Stdout, p.cmd.Stderr = output, output
		started := make(chan error, 1)
		go func() {
			defer output.Close()
			runtime.LockOSThread() // the kernel ends the child with the thread that started it
			err := p.cmd.Start()
			started <- err
			if err != nil {
				return
			}
			p.cmd.Wait()
			close(p.gone)
			ended()
		}()
		if err := <-started; err != nil {
			return nil, ecsError("ClientException", "The program for image "+container.Image+" cannot be run: "+err.Error())
		}
		t.double.log.Info("task runs", "image", container.Image, "address", ip, "log", output.Name())
		return p, nil
	}
	return nil, nil
}

// logOf is the file that a task writes to.
func (t *tasks) logOf(id string) string { return filepath.Join(t.double.dir, "task-"+id+".log") }

// alive says whether there is a process, and it has not ended.
func (p *taskProcess) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// exit is the status of a process that has ended.
func (p *taskProcess) exit() (code int, ended bool) {
	if p == nil || p.alive() {
		return 0, false
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal()), true // as a container's
	}
	return p.cmd.ProcessState.ExitCode(), true
}

// stopTimeout is how long a task may take to end, as Fargate's at the most.
const stopTimeout = 2 * time.Minute

// stop asks a process to end, and ends it when it does not. It does not wait.
func (p *taskProcess) stop() {
	p.once.Do(func() {
		if !p.alive() {
			return // its number may be another's by now
		}
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		go func() {
			select {
			case <-p.gone:
			case <-time.After(stopTimeout):
				syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
			}
		}()
	})
}

// close ends every process and returns when they are gone.
func (t *tasks) close() error {
	t.lock.Lock()
	t.stopping = true
	var all []*taskProcess
	for _, task := range append(t.listed(false), t.stopped...) {
		if task.process.alive() {
			all = append(all, task.process)
		}
	}
	t.lock.Unlock()
	for _, p := range all {
		p.stop()
	}
	limit := time.After(2 * time.Second)
	for _, p := range all {
		select {
		case <-p.gone:
		case <-limit:
			syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
			<-p.gone
		}
	}
	return nil
}

// settleTasks goes on with deployments before their targets are looked at.
func (d *Double) settleTasks(ctx context.Context, _ *call) error {
	d.tasks.lock.Lock()
	defer d.tasks.lock.Unlock()
	return d.tasks.settle(ctx)
}

// showTargets asks the processes behind targets for their health, as the load
// balancer's checks would. The others are healthy, as moto says.
func (d *Double) showTargets(ctx context.Context, c *call, answer *node) error {
	d.tasks.lock.Lock()
	real := map[string]*ecsTask{}
	for _, s := range d.tasks.services {
		for _, task := range s.tasks {
			if task.process != nil {
				real[task.ip] = task
			}
		}
	}
	d.tasks.lock.Unlock()
	var group *targetGroup
	for _, item := range answer.at("DescribeTargetHealthResult.TargetHealthDescriptions.member") {
		ip := item.one("Target.Id")
		if real[ip] == nil {
			continue
		}
		if group == nil {
			seen, err := d.targetGroup(ctx, c.place(), c.params.one("TargetGroupArn"))
			if err != nil {
				return err
			}
			group = seen
		}
		health := item.child("TargetHealth")
		health.children = []*node{leaf("State", "healthy")}
		if err := checkTarget(ctx, group, ip, item.one("Target.Port")); err != nil {
			health.children = []*node{leaf("State", "unhealthy"), leaf("Reason", "Target.FailedHealthChecks"), leaf("Description", "Health checks failed")}
		}
	}
	return nil
}

// targetGroup is what is read of one.
type targetGroup struct{ protocol, port, path string } // of its health check

func (d *Double) targetGroup(ctx context.Context, at place, arn string) (*targetGroup, error) {
	text, err := d.world.do(ctx, at.account, at.region, want{service: "elasticloadbalancing", operation: "DescribeTargetGroups",
		form: []string{"Version", "2015-12-01", "TargetGroupArns.member.1", arn}})
	if err != nil {
		return nil, err
	}
	group := text.get("DescribeTargetGroupsResult").get("TargetGroups").get("member")
	return &targetGroup{group.one("HealthCheckProtocol"), group.one("HealthCheckPort"), group.one("HealthCheckPath")}, nil
}

// checkTarget asks a target as its group's health check does.
func checkTarget(ctx context.Context, group *targetGroup, ip, targetPort string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	port, path := group.port, group.path
	if _, err := strconv.Atoi(port); err != nil { // traffic-port
		port = targetPort
	}
	address := net.JoinHostPort(ip, port)
	if !strings.HasPrefix(group.protocol, "HTTP") {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode >= 400 {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	return nil
}
