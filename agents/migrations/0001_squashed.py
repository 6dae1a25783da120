import agents.evidence
import agents.models
import agents.states
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.text
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models

ONE_OWNER = """
CREATE FUNCTION refuse_second_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('account owner'), hashtext(NEW.account));
    IF EXISTS (
        SELECT FROM agent_deployments d JOIN agents theirs ON theirs.id = d.agent_id, agents ours
        WHERE ours.id = NEW.agent_id AND ours.venue <> 'paper' AND theirs.venue = ours.venue
          AND d.account = NEW.account AND d.id <> NEW.id AND d.owner_id IS DISTINCT FROM NEW.owner_id
    ) THEN
        RAISE EXCEPTION 'account % belongs to another owner', NEW.account
            USING ERRCODE = 'check_violation', CONSTRAINT = 'one_owner_per_account';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_owner_per_account BEFORE INSERT OR UPDATE OF account, owner_id, agent_id ON agent_deployments
FOR EACH ROW EXECUTE FUNCTION refuse_second_owner();
"""
"""An account at a real venue belongs to one owner."""


class Migration(migrations.Migration):

    replaces = [
        ('agents', '0001_initial'),
        ('agents', '0002_account_owner'),
        ('agents', '0003_account_paging'),
        ('agents', '0004_remove_unused_billing_times'),
        ('agents', '0005_weights'),
        ('agents', '0006_help_texts'),
        ('agents', '0007_last_entry'),
        ('agents', '0008_fees'),
        ('agents', '0009_customers'),
        ('agents', '0010_unique_names'),
        ('agents', '0011_owner_terms'),
        ('agents', '0012_safe_onboarding'),
        ('agents', '0013_starting_balance'),
        ('agents', '0014_names_per_owner'),
        ('agents', '0015_perps_safe'),
        ('agents', '0016_volatility_stops'),
    ]

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='CtAccount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('x_username', models.CharField(help_text='without @; compared without case', max_length=50, unique=True)),
                ('display_name', models.CharField(blank=True, max_length=100)),
                ('source', models.CharField(default='x', help_text='the post source that reads it', max_length=20)),
                ('followers_count', models.PositiveIntegerField(default=0)),
                ('impact_factor', models.DecimalField(decimal_places=6, default=Decimal('0.5'), help_text='fraction; 0.5 means nothing is known of this author', max_digits=7, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1)])),
                ('is_active', models.BooleanField(default=True)),
                ('since_id', models.CharField(blank=True, help_text='the newest post that we hold', max_length=40)),
                ('last_seen_at', models.DateTimeField(blank=True, null=True)),
                ('until_id', models.CharField(blank=True, help_text='posts older than this, down to since_id, are still to be read', max_length=40)),
                ('reached_id', models.CharField(blank=True, help_text='since_id once they are read', max_length=40)),
                ('reached_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'CT account',
                'db_table': 'ct_accounts',
                'ordering': ('x_username',),
            },
        ),
        migrations.CreateModel(
            name='Agent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='no two agents of one owner share it', max_length=60)),
                ('state', models.CharField(choices=[(agents.states.AgentState['DRAFT'], agents.states.AgentState['DRAFT']), (agents.states.AgentState['ACTIVE'], agents.states.AgentState['ACTIVE']), (agents.states.AgentState['PAUSED'], agents.states.AgentState['PAUSED'])], default=agents.states.AgentState['DRAFT'], editable=False, max_length=12)),
                ('venue', models.CharField(default='paper', help_text='a name from config/venues.yaml', max_length=20)),
                ('tokens', models.JSONField(blank=True, default=list, help_text='symbols this agent may trade, e.g. ["BTC", "ETH"]; empty: all of its venue')),
                ('sizing_preset', models.CharField(choices=[('conservative', 'Conservative'), ('moderate', 'Moderate'), ('aggressive', 'Aggressive')], default='moderate', max_length=12)),
                ('exit_preset', models.CharField(choices=[('signal', 'As the signal says'), ('conservative', 'Conservative'), ('moderate', 'Moderate'), ('aggressive', 'Aggressive'), ('volatility', 'Stop loss by forecast volatility')], default='signal', max_length=12)),
                ('min_confidence', models.DecimalField(decimal_places=6, default=Decimal('0.5'), help_text='fraction; a weaker signal is declined as below_threshold', max_digits=7, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1)])),
                ('weights', models.JSONField(default=agents.evidence.default_weights, help_text='0 to 100 by piece of evidence: how much it counts; one that is missing counts 0', validators=[agents.models.validate_weights])),
                ('preferences', models.JSONField(blank=True, default=dict, editable=False, help_text='the five preferences (agents/preferences.py) that the weights were derived from; empty: none')),
                ('profit_receiver', models.CharField(blank=True, help_text='address that receives the profit share', max_length=64)),
                ('profit_share', models.DecimalField(decimal_places=6, default=Decimal('0.2'), help_text='fraction of winners, after the loss carry-forward', max_digits=7, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1)])),
                ('trade_fee', models.CharField(blank=True, db_default='', default='', help_text="flat amount_usdc=… or percentage rate_pct=… minimum_usdc=…; empty: the platform's", max_length=120)),
                ('profit_fee', models.CharField(blank=True, db_default='', default='', help_text="profit_share minimum_usdc=… (the rate is the profit share), tiered tiers=0:5,100:10 minimum_usdc=… or flat amount_usdc=…; empty: the platform's", max_length=200)),
                ('monthly_fee', models.CharField(blank=True, db_default='', default='', help_text='subscription monthly_usdc=… trial_days=…; empty: none', max_length=120)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='agents', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'agents',
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='Deployment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[(agents.states.DeploymentState['DRAFT'], agents.states.DeploymentState['DRAFT']), (agents.states.DeploymentState['ACTIVE'], agents.states.DeploymentState['ACTIVE']), (agents.states.DeploymentState['PAUSED'], agents.states.DeploymentState['PAUSED']), (agents.states.DeploymentState['REVOKED'], agents.states.DeploymentState['REVOKED'])], default=agents.states.DeploymentState['DRAFT'], editable=False, max_length=12)),
                ('account', models.CharField(help_text='the account at the venue; throttles count per account', max_length=80)),
                ('starting_balance', models.DecimalField(decimal_places=18, default=Decimal('10000'), help_text='USDC that a paper account starts with', max_digits=38)),
                ('safe_capital', models.DecimalField(blank=True, decimal_places=18, editable=False, help_text='USDC that its owner means to keep in the Safe; the limits that the owner signs are proportionate', max_digits=38, null=True)),
                ('user_wallet', models.CharField(blank=True, max_length=42)),
                ('safe_wallet', models.CharField(blank=True, max_length=42)),
                ('chain_id', models.PositiveBigIntegerField(blank=True, null=True)),
                ('module_address', models.CharField(blank=True, max_length=42)),
                ('module_enabled', models.BooleanField(default=False)),
                ('verified_at', models.DateTimeField(blank=True, help_text='when the chain last confirmed the policy', null=True)),
                ('agreed_fees', models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict, editable=False, help_text="the agent's fees before they changed: none is charged that is higher than these")),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('max_daily_usd', models.DecimalField(blank=True, decimal_places=18, editable=False, help_text="its owner's limit of the entries of a UTC day, USD", max_digits=38, null=True)),
                ('max_position_usd', models.DecimalField(blank=True, decimal_places=18, editable=False, help_text="its owner's limit of one position, USD", max_digits=38, null=True)),
                ('max_open_positions', models.PositiveSmallIntegerField(blank=True, editable=False, help_text="its owner's limit of tokens held at once", null=True)),
                ('limits_changed_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('limits_changed_by', models.CharField(blank=True, db_default='', default='', editable=False, max_length=150)),
                ('confirm_entries', models.BooleanField(db_default=False, default=False, editable=False, help_text="each entry waits for its owner's yes until its signal expires")),
                ('last_entry', models.BigIntegerField(db_default=0, default=0, editable=False, help_text='id of its latest entry order that was reserved; who was served longest ago comes first')),
                ('agent', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deployments', to='agents.agent')),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='deployments', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'agent_deployments',
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='Subscription',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='subscriptions', to='agents.ctaccount')),
                ('agent', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='subscriptions', to='agents.agent')),
            ],
            options={
                'db_table': 'agent_accounts',
            },
        ),
        migrations.AddConstraint(
            model_name='agent',
            constraint=models.UniqueConstraint(fields=('owner', 'name'), name='one_agent_of_a_name_per_owner', nulls_distinct=False, violation_error_message='The owner has another agent of this name: choose another name.'),
        ),
        migrations.AddConstraint(
            model_name='agent',
            constraint=models.CheckConstraint(condition=django.db.models.expressions.NegatedExpression(models.Func(models.F('weights'), models.Value('$.* ? (@.type() != "number" || @ < 0 || @ > 100)'), function='jsonb_path_exists', output_field=models.BooleanField())), name='weights_are_0_to_100'),
        ),
        migrations.AddConstraint(
            model_name='deployment',
            constraint=models.UniqueConstraint(fields=('agent', 'account'), name='one_deployment_per_agent_and_account'),
        ),
        migrations.AddConstraint(
            model_name='deployment',
            constraint=models.CheckConstraint(condition=models.Q(('starting_balance__gte', 0)), name='no_negative_starting_balance'),
        ),
        migrations.AddConstraint(
            model_name='deployment',
            constraint=models.CheckConstraint(condition=models.Q(('safe_wallet', ''), ('account', models.F('safe_wallet')), ('account', django.db.models.functions.text.Concat(models.Value('gmx:'), models.F('safe_wallet'))), _connector='OR'), name='a_safe_is_its_deployments_account'),
        ),
        migrations.AddConstraint(
            model_name='subscription',
            constraint=models.UniqueConstraint(fields=('agent', 'account'), name='agent_follows_once'),
        ),
        migrations.RunSQL(ONE_OWNER, "DROP FUNCTION refuse_second_owner CASCADE"),
    ]
