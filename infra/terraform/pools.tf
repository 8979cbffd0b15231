# Nodes that come when a pod wants them and go when none does. A step is started again after its spot node was taken
# away, and goes on from its last saved step.
locals {
  chips = [for side in split("x", var.tpu_pool.topology) : tonumber(side)]
  hosts = ceil(
    (length(local.chips) == 3 ? local.chips[0] * local.chips[1] * local.chips[2] : local.chips[0] * local.chips[1])
    / var.tpu_pool.chips_per_host
  )
  node_locations = [for zone in var.zones : "${var.region}-${zone}"]
}

# Kubeflow's own services: small, and always there.
resource "google_container_node_pool" "system" {
  count = var.cluster ? 1 : 0

  project            = var.project
  name               = "system"
  cluster            = google_container_cluster.this[0].id
  node_locations     = [local.node_locations[0]]
  initial_node_count = 1

  autoscaling {
    min_node_count = 1
    max_node_count = 3
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = "e2-standard-4"
    service_account = google_service_account.this["nodes"].email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"] # what it may do the account's roles say

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }
}

resource "google_container_node_pool" "data" {
  count = var.cluster ? 1 : 0

  project            = var.project
  name               = "data"
  cluster            = google_container_cluster.this[0].id
  node_locations     = local.node_locations
  initial_node_count = 0

  autoscaling {
    total_min_node_count = 0
    total_max_node_count = var.data_pool.max_nodes
    location_policy      = "ANY"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.data_pool.machine_type
    spot            = var.data_pool.spot
    disk_size_gb    = 200 # images, and the shards of a step
    disk_type       = "pd-balanced"
    service_account = google_service_account.this["nodes"].email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }
}

# GKE taints these nodes with nvidia.com/gpu, so that nothing else is put there.
resource "google_container_node_pool" "gpu" {
  #checkov:skip=CKV_GCP_68: the driver's kernel module, which GKE installs, is not signed for Secure Boot on all GPUs
  count = var.cluster && var.gpu_pool.max_nodes > 0 ? 1 : 0

  project            = var.project
  name               = "gpu"
  cluster            = google_container_cluster.this[0].id
  node_locations     = local.node_locations
  initial_node_count = 0

  autoscaling {
    total_min_node_count = 0
    total_max_node_count = var.gpu_pool.max_nodes
    location_policy      = "ANY"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.gpu_pool.machine_type
    spot            = var.gpu_pool.spot
    disk_size_gb    = 200
    disk_type       = "pd-balanced"
    service_account = google_service_account.this["nodes"].email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    guest_accelerator {
      type  = var.gpu_pool.accelerator
      count = var.gpu_pool.count
      gpu_driver_installation_config {
        gpu_driver_version = "LATEST" # CUDA 13 wants a driver of the 580 series or newer
      }
    }

    shielded_instance_config {
      enable_integrity_monitoring = true
    }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }
}

# GKE labels these nodes with cloud.google.com/gke-tpu-accelerator and gke-tpu-topology, and taints them google.com/tpu.
resource "google_container_node_pool" "tpu" {
  #checkov:skip=CKV_GCP_68: TPU machines do not start with Secure Boot in all generations
  count = var.cluster && var.tpu_pool.max_slices > 0 ? (local.hosts > 1 ? var.tpu_pool.max_slices : 1) : 0

  project            = var.project
  name               = "tpu-${count.index}"
  cluster            = google_container_cluster.this[0].id
  node_locations     = [local.node_locations[0]]
  initial_node_count = 0

  # A slice of several hosts is a pool of its own, which comes and goes as a whole.
  autoscaling {
    total_min_node_count = 0
    total_max_node_count = local.hosts > 1 ? local.hosts : var.tpu_pool.max_slices
    location_policy      = "ANY"
  }

  dynamic "placement_policy" {
    for_each = local.hosts > 1 ? [var.tpu_pool.topology] : []
    content {
      type         = "COMPACT"
      tpu_topology = placement_policy.value
    }
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.tpu_pool.machine_type
    spot            = var.tpu_pool.spot
    disk_size_gb    = 200
    disk_type       = "pd-balanced"
    service_account = google_service_account.this["nodes"].email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    shielded_instance_config {
      enable_integrity_monitoring = true
    }
    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }
}
