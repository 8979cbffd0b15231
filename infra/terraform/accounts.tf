# One account for each duty, with what that duty needs and nothing else. Nobody gets a key: people act as
# bertline-submitter, pods and Google's services as the account that they are started with.
locals {
  accounts = {
    pipeline  = "Runs a pipeline's steps, on Vertex AI and in Kubeflow's pods"
    trainer   = "Trains, where training runs as a job of its own"
    dataflow  = "Dataflow's workers"
    submitter = "Submits, schedules, follows and fetches runs"
    build     = "Builds and pushes images"
    nodes     = "The cluster's nodes"
  }

  # account/role => on the whole project
  project_roles = toset([
    "pipeline/roles/aiplatform.user",    # metadata, jobs of a pipeline's steps
    "pipeline/roles/dataflow.developer", # starts, follows and ends the job of a step
    "pipeline/roles/logging.logWriter",
    "trainer/roles/logging.logWriter",
    "trainer/roles/monitoring.metricWriter",
    "dataflow/roles/dataflow.worker",
    "submitter/roles/aiplatform.user", # pipeline jobs and their schedules
    "submitter/roles/logging.viewer",  # `bertline logs`
    "build/roles/logging.logWriter",
    "build/roles/cloudbuild.builds.builder",
    "nodes/roles/container.defaultNodeServiceAccount",
  ])

  # on the bucket of artifacts alone
  bucket_roles = toset([
    "pipeline/roles/storage.objectUser",
    "trainer/roles/storage.objectUser",
    "dataflow/roles/storage.objectUser",
    "submitter/roles/storage.objectUser",         # pipeline_root, `bertline gc`, `rollback` and `fetch`
    "submitter/roles/storage.legacyBucketReader", # Vertex AI's client looks whether the bucket is there
  ])

  # on the images alone
  image_roles = toset([
    "pipeline/roles/artifactregistry.reader",
    "trainer/roles/artifactregistry.reader",
    "dataflow/roles/artifactregistry.reader",
    "nodes/roles/artifactregistry.reader",
    "build/roles/artifactregistry.writer",
  ])

  # account/account: the first starts jobs that run as the second
  acts_as = toset([
    "submitter/pipeline",
    "pipeline/trainer",
    "pipeline/dataflow",
  ])

  # Kubernetes' accounts in infra/kustomize with the same names
  in_kubernetes = toset(["pipeline", "trainer"])

  member = { for key, _ in local.accounts : key => "serviceAccount:${google_service_account.this[key].email}" }
}

resource "google_service_account" "this" {
  for_each = local.accounts

  project      = var.project
  account_id   = "bertline-${each.key}"
  display_name = "bertline: ${each.key}"
  description  = each.value

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "this" {
  for_each = local.project_roles

  project = var.project
  role    = trimprefix(each.value, "${split("/", each.value)[0]}/")
  member  = local.member[split("/", each.value)[0]]
}

resource "google_storage_bucket_iam_member" "artifacts" {
  for_each = local.bucket_roles

  bucket = google_storage_bucket.artifacts.name
  role   = trimprefix(each.value, "${split("/", each.value)[0]}/")
  member = local.member[split("/", each.value)[0]]
}

resource "google_artifact_registry_repository_iam_member" "images" {
  for_each = local.image_roles

  project    = var.project
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = trimprefix(each.value, "${split("/", each.value)[0]}/")
  member     = local.member[split("/", each.value)[0]]
}

resource "google_artifact_registry_repository_iam_member" "pipelines" {
  for_each = {
    submitter = "roles/artifactregistry.writer"
    pipeline  = "roles/artifactregistry.reader"
  }

  project    = var.project
  location   = google_artifact_registry_repository.pipelines.location
  repository = google_artifact_registry_repository.pipelines.name
  role       = each.value
  member     = local.member[each.key]
}

resource "google_service_account_iam_member" "acts_as" {
  for_each = local.acts_as

  service_account_id = google_service_account.this[split("/", each.value)[1]].name
  role               = "roles/iam.serviceAccountUser"
  member             = local.member[split("/", each.value)[0]]
}

resource "google_service_account_iam_member" "submitters" {
  for_each = toset(var.submitters)

  service_account_id = google_service_account.this["submitter"].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

# Workload Identity: a pod with the Kubernetes account of the same name acts as the account.
resource "google_service_account_iam_member" "workload_identity" {
  for_each = var.cluster ? local.in_kubernetes : toset([])

  service_account_id = google_service_account.this[each.value].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.kubernetes_namespace}/bertline-${each.value}]"

  depends_on = [google_container_cluster.this] # which makes the pool of identities
}

# Kubeflow Pipelines starts a run's pods with an account of its own, unless a run names another.
resource "google_service_account_iam_member" "kubeflow" {
  count = var.cluster ? 1 : 0

  service_account_id = google_service_account.this["pipeline"].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.kubernetes_namespace}/pipeline-runner]"

  depends_on = [google_container_cluster.this]
}
