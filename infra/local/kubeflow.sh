#!/usr/bin/env bash
# A Kubeflow Pipelines on this machine, in a cluster of kind (Kubernetes in a container):
#
#     infra/local/kubeflow.sh up       makes the cluster, installs Kubeflow Pipelines and builds the image into it
#     infra/local/kubeflow.sh open     forwards the page and the API to http://localhost:8080, until Ctrl-C
#     infra/local/kubeflow.sh image    builds the image again, after a change of the code
#     infra/local/kubeflow.sh down     removes the cluster and all that is in it
#
# It wants docker, kind and kubectl, 8 GB of memory and 30 GB on disk, and the network: images of Kubeflow, its manifests.
# Settings: KFP_VERSION, CLUSTER, IMAGE, PORT in the environment.
set -euo pipefail

KFP_VERSION="${KFP_VERSION:-2.17.0}" # as the kfp of requirements.lock
CLUSTER="${CLUSTER:-bertline}"
IMAGE="${IMAGE:-bertline-python:cpu-0.1.0}"
PORT="${PORT:-8080}"
NAMESPACE=kubeflow
MANIFESTS="github.com/kubeflow/pipelines/manifests/kustomize"
MEMORY_GB=8

cd "$(dirname "$0")/../.."
here=infra/local

fail() {
    echo "kubeflow.sh: error: $*" >&2
    exit 2
}

kubectl_here() {
    kubectl --context "kind-$CLUSTER" "$@"
}

# Everything that would fail later, said first and all at once.
check_tools() {
    local missing=()
    local -A sources=(
        [docker]="https://docs.docker.com/engine/install/"
        [kind]="https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
        [kubectl]="https://kubernetes.io/docs/tasks/tools/"
    )
    for tool in docker kind kubectl; do
        command -v "$tool" > /dev/null || missing+=("$tool (${sources[$tool]})")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        printf -v list '%s, ' "${missing[@]}"
        fail "not installed: ${list%, }"
    fi
    local bytes
    bytes="$(docker info --format '{{.MemTotal}}' 2> /dev/null)" || fail "docker does not answer; is its engine started?"
    if [ "$((bytes / 1000000000))" -lt "$MEMORY_GB" ]; then
        fail "docker has $((bytes / 1000000000)) GB of memory, Kubeflow Pipelines needs $MEMORY_GB; give it more"
    fi
}

has_cluster() {
    kind get clusters 2> /dev/null | grep -qx "$CLUSTER"
}

build_image() {
    docker build --file infra/docker/Dockerfile --target cpu --tag "$IMAGE" .
    kind load docker-image "$IMAGE" --name "$CLUSTER"
}

install_kubeflow() {
    kubectl_here apply --kustomize "$MANIFESTS/cluster-scoped-resources?ref=$KFP_VERSION"
    kubectl_here wait crd/applications.app.k8s.io --for condition=established --timeout=60s
    kubectl_here apply --kustomize "$MANIFESTS/env/platform-agnostic?ref=$KFP_VERSION"
    echo "Waiting for Kubeflow Pipelines: its images are downloaded, which takes some minutes."
    kubectl_here wait deployment --all --namespace "$NAMESPACE" --for condition=available --timeout=1200s
}

up() {
    check_tools
    has_cluster || kind create cluster --name "$CLUSTER" --config "$here/kind.yaml"
    install_kubeflow
    build_image
    kubectl_here apply --kustomize "$here"
    echo "Ready. Next: $here/kubeflow.sh open, and in another terminal BERTLINE_IMAGE=$IMAGE bertline compile"
}

case "${1:-}" in
    up) up ;;
    open)
        check_tools
        has_cluster || fail "there is no cluster $CLUSTER; make it: $here/kubeflow.sh up"
        echo "Kubeflow Pipelines: http://localhost:$PORT"
        kubectl_here port-forward --namespace "$NAMESPACE" --address 127.0.0.1 svc/ml-pipeline-ui "$PORT:80"
        ;;
    image)
        check_tools
        has_cluster || fail "there is no cluster $CLUSTER; make it: $here/kubeflow.sh up"
        build_image
        ;;
    down)
        check_tools
        kind delete cluster --name "$CLUSTER"
        ;;
    *) sed -n "2,10s/^# \\{0,1\\}//p" "$here/kubeflow.sh" && exit 2 ;;
esac
