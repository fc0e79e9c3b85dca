// The container that holds a pod's namespaces on the bare node.
module policyops.dev/hack/cluster/pause

go 1.26.0
