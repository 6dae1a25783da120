import django.contrib.postgres.fields
import django.db.models.deletion
import pgvector.django.indexes
import pgvector.django.vector
from pgvector.django import VectorExtension
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('knowledge', '0001_documents'),
        ('knowledge', '0002_help_texts'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        VectorExtension(),
        migrations.CreateModel(
            name='Item',
            fields=[
                ('key', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('uri', models.CharField(max_length=2000)),
                ('source', models.CharField(max_length=40)),
                ('outcome', models.CharField(help_text='stored, unchanged, duplicate, empty, or the code of the error', max_length=60)),
                ('attempts', models.PositiveIntegerField(default=0, help_text='consecutive failures')),
                ('last_error', models.TextField(blank=True)),
                ('checked_at', models.DateTimeField()),
                ('due_at', models.DateTimeField(help_text='UTC; next read; empty: quarantined', null=True)),
            ],
            options={
                'db_table': 'knowledge_items',
                'ordering': ('source', 'uri'),
            },
        ),
        migrations.CreateModel(
            name='Document',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(help_text='SHA-256 of the URI before redaction', max_length=64)),
                ('uri', models.CharField(help_text='file path, URL or row, redacted', max_length=2000)),
                ('source', models.CharField(help_text='source of config/knowledge.yaml, or `by hand`', max_length=40)),
                ('title', models.CharField(blank=True, max_length=300)),
                ('content_sha256', models.CharField(max_length=64)),
                ('tokens', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), default=list, help_text='tokens it is about; empty: all', size=None)),
                ('agents', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=80), default=list, help_text='agents that may see it; empty: all', size=None)),
                ('known_at', models.DateTimeField(help_text='UTC; decisions before this time do not see it')),
                ('superseded_at', models.DateTimeField(help_text='UTC; when a newer version replaced it; empty: current version', null=True)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'knowledge_documents',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['key'], name='knowledge_document_key'), models.Index(fields=['content_sha256'], name='knowledge_document_content')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('superseded_at', None)), fields=('key',), name='one_version_in_force')],
            },
        ),
        migrations.CreateModel(
            name='Chunk',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('place', models.PositiveIntegerField(help_text='position in the document, from 0')),
                ('text', models.TextField()),
                ('embedder', models.CharField(help_text='embedder, model and dimensions; only vectors of the same are compared', max_length=120)),
                ('embedding', pgvector.django.vector.VectorField(dimensions=1024)),
                ('document', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chunks', to='knowledge.document')),
            ],
            options={
                'db_table': 'knowledge_chunks',
                'ordering': ('document', 'place'),
                'indexes': [pgvector.django.indexes.HnswIndex(ef_construction=64, fields=['embedding'], m=16, name='knowledge_chunks_hnsw', opclasses=['vector_cosine_ops']), models.Index(fields=['embedder'], name='knowledge_chunks_embedder')],
                'constraints': [models.UniqueConstraint(fields=('document', 'place'), name='one_chunk_per_place')],
            },
        ),
    ]
